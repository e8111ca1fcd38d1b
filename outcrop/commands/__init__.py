"""The commands, one file each: what a person types. `outcrop.cli` puts them together."""
