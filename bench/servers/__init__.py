"""Several SMTP servers with limits of their own: what is got out of them, counted where the mails arrive."""
