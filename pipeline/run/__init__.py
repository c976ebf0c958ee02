"""What every run needs: its cache, its environment, its folders and locks."""
