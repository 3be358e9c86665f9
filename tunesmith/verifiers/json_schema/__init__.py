"""The verifier `json_schema`: JSON that a schema allows and that has a reference's fields. Imports core and `regex`."""
