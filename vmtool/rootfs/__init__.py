"""Guest images: recipes, building, growing, looking into, verifying and booting them."""
