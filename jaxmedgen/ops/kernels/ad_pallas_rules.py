"""What the stencils of ad and ad* compute, apart from how a platform reads neighbours."""


def ad_rule(n, v, w):
    """``sum_j (d_j v_i) w_j - (d_j w_i) v_j``.

    Args:
        n: number of axes.
        v: ``v(i, axis, by)`` reads component `i` one voxel up (`by` 1) or down (-1) an axis, or
            here (0).
        w: likewise.

    Returns:
        The `n` components.
    """
    rows = []
    for i in range(n):
        total = 0.0
        for j in range(n):
            total += (v(i, j, 1) - v(i, j, -1)) * w(j)
            total -= (w(i, j, 1) - w(i, j, -1)) * v(j)
        rows.append(0.5 * total)
    return rows


def ad_star_rule(n, v, m):
    """``sum_j (d_i v_j) m_j + d_j (v_j m_i)``; arguments as in `ad_rule`."""
    rows = []
    for i in range(n):
        total = 0.0
        for j in range(n):
            total += (v(j, i, 1) - v(j, i, -1)) * m(j)
            total += v(j, j, 1) * m(i, j, 1) - v(j, j, -1) * m(i, j, -1)
        rows.append(0.5 * total)
    return rows


RULES = {"ad": ad_rule, "ad_star": ad_star_rule}
