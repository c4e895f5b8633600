"""From sources to notebooks, and what can be said of them without running one."""
