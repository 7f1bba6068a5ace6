"""What all packages of the project stand on: errors, files, commands, tables for a terminal, the machine."""
