"""The process: putting together what is served, from start to end, alone or as several workers."""
