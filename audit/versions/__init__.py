"""Where versions are found, and how they are listed, shown and followed over time."""
