"""What tests share beside fixtures: pictures, stores and runs to work on, damage, comparisons of folders."""
