"""What compiled rules run on: facts they read, decisions they make, indexes that find them. Pure; imports model only."""
