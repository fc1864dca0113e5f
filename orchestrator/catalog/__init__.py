"""Facts about GPUs and prices: tables whose rows say where they are from and how old they are."""
