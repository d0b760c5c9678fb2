"""What each command of the command line does. Imported only when its command runs, so that `--help` stays quick."""
