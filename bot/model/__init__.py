"""What we speak of: values and errors. No input, no output."""
