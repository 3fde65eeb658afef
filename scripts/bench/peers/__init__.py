"""Methods by others, from their packages where there are any, else written from their papers."""
