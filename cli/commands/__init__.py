"""The commands, one file each, named as they are typed. A command's module imports nothing heavy at its top."""
