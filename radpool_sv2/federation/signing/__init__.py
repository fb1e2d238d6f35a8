"""Signs together what follows from certified state: in one round, and by ROAST when that fails."""
