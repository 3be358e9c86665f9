"""Personal data and secrets in the texts of rows: found by rules that others maintain, counted, and masked or set aside
where params say so (docs/decisions/039)."""
