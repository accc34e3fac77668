"""A question becomes an answer: which clips go with this one."""
