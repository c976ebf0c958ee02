"""What is proved about the served classifier itself: bounds that no image of a ball can leave."""
