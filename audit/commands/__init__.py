"""The commands of hallmark, a file for each that belong together."""
