"""Getting machines and reaching them; knows nothing of jobs, budgets or databases."""
