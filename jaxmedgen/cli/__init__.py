"""Command line: flags -> one library call; nothing else lives here."""
