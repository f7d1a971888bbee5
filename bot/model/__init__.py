"""The domain: values and errors. No input or output."""
