"""What compiled rules run on: facts they read, decisions they make, indexes that find them. Imports model only."""
