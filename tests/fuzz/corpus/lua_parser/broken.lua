local x = = {
