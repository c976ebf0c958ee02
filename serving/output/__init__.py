"""What the service says about the model: robustness, versions, evidence, page, OpenAPI."""
