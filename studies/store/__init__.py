"""What was measured.

evaluation_queries  Queries on evaluations, their chunks and failures, and on schedules and members.
evaluations         The evaluation store: which images were sampled for which question, and their features.
files               Sample images and schedule files of the points that matter, each with its row.
leases              One owner at a time for a name, until a moment on the database's clock, with a rising token.
measurements        Qualities, timings of kinds of calls, and end-to-end timings.
records             The rows of the study database as frozen values, and a schedule with the costs stored beside it.
scores              What the members of a study scored, in one query of few columns.
store               Everything that a study database holds, behind one value; and a study in it, by its name.
studies             The studies of a database: their configurations, members, workers, and what they have spent.
"""
