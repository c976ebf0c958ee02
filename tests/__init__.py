"""The tests report no use of anything either."""

from bundle.process import set_up

set_up()
