"""Other tasks than image classification: what their networks learn, and how good they are at it."""
