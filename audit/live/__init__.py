"""`hallmark live`: a running service held against the evidence that it hands out, and against the model that it names."""
