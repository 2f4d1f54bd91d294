"""What the interfaces of others share: their messages, the faces in their tensors, their statistics."""
