"""What is kept: the only user of SQLAlchemy."""
