"""pytest puts this folder on the import path because of this file, so that tests share modules beside it."""
