"""One file that holds everything that the claims about a launch rest on, so that another machine can check them."""
