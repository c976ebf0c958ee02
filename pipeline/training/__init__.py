"""The loop: order of images, optimiser, schedule, precision, averaging, validation, checkpoints."""
