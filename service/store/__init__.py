"""SQL, the truth: tables, transactions, and one module per noun. Every state change is a guarded statement here."""
