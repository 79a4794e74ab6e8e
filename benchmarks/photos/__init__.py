"""Photos as they come from phones, and whether they are classified as their pixels are."""
