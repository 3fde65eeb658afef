"""A workload that is not ours: a class-conditional network of sgm's own engine, trained on Fashion-MNIST."""
