"""What long work shares, training and scoring: several processes, signals, progress."""
