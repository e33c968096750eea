"""What people read: tables and texts from plans and decisions. Pure."""
