"""What people see of a run: progress, the report and its pages."""
