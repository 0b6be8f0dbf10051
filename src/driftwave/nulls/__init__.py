"""What a field without travelling waves looks like: surrogates and p values."""
