"""Several ranks that are one client: they train together over the site's fast network, and one update leaves the site.

Rank 0 is the worker: it alone speaks to the coordinator. Its loop asks `shop.SiteShop` for what it would ask a workshop
for, which sends the errand to the other ranks (`errands`), has every rank do its part (`crew`) and puts the results
together (`reduction`). Ranks reach one another through a `fabric`: MPI, torch.distributed, or threads of one process.
`rollcall` notices a rank that is gone, whatever the fabric makes of that. `running` composes it all.
"""
