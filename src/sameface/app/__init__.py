"""`sameface app`: the toolkit as a page in the browser, served by this machine to itself."""
