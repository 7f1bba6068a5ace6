"""From scores and labels to figures: files of scores, orders, definitions, intervals, classes, pictures."""
