"""Fine-tunes rank maps on one frozen base model."""
