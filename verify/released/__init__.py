"""The authors' released files, when a user has them: found, run, proved, and the fault named where they do not fit."""
