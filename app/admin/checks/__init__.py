"""What `danlu doctor` looks at, a module for each thing. None of them changes anything."""
