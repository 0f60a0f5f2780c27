"""How the tiny base was made: `synthetic` invents creatures, `pretrain` turns them into lessons and trains on them."""
