"""Where images come from: sources, splits, the manifest, and augmentation on the device."""
