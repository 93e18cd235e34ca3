"""Systems that make images: from label maps, from noise, from both."""
