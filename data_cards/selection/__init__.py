"""Choose some of the pictures: filters, matched classes, subsets, advice."""
