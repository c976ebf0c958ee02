"""Image files, from their bytes to pixels: headers first, then one rule of decoding."""
