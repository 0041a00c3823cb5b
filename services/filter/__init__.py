"""The filter service: which items has this user not seen lately, and what did they just do."""
